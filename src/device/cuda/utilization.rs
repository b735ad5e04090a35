//! How busy a GPU is, as NVIDIA's management library tells.

use nvml_wrapper::Nvml;

/// The library, and which of its GPUs is meant: it counts them in its own order.
pub(super) struct Utilization {
    nvml: Nvml,
    uuid: String,
}

impl Utilization {
    /// `None` where there is no such library or it does not know the GPU; nothing depends on it.
    pub(super) fn open(uuid: [u8; 16]) -> Option<Self> {
        let nvml = Nvml::init().ok()?;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (a, rest) = uuid.split_at(4);
        let (b, rest) = rest.split_at(2);
        let (c, rest) = rest.split_at(2);
        let (d, e) = rest.split_at(2);
        let uuid = format!("GPU-{}-{}-{}-{}-{}", hex(a), hex(b), hex(c), hex(d), hex(e));
        nvml.device_by_uuid(uuid.as_str()).ok()?;
        Some(Self { nvml, uuid })
    }

    /// The share of the last sampling period in which a kernel ran.
    pub(super) fn read(&self) -> Option<f64> {
        let device = self.nvml.device_by_uuid(self.uuid.as_str()).ok()?;
        device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0)
    }
}
