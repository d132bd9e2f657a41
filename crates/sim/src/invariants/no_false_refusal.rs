//! No false refusal: kills and power cuts alone damage nothing, so every group of every boot is
//! clean, and nothing is called damage.

use refloat_log_store::BootReport;

use super::Check;

pub(crate) const NAME: &str = "no false refusal";

pub(crate) fn check(report: &BootReport) -> Check {
    if report.is_clean() && report.damage.is_empty() {
        return Ok(());
    }
    Err(format!("after crashes alone: {}", report.summary()))
}
