//! Where a tensor is, and how it gets from there to elsewhere.

use super::{DType, Shape, Tensor};
use crate::device::Device;
use crate::device::cuda::Cuda;
use crate::device::memory::Block;
use crate::error::Result;
use std::sync::Arc;

impl Tensor {
    /// Arbitrary content, on `device`: for an operation that writes all of it.
    pub fn on(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        Ok(match device {
            Device::Cpu => Self::scratch(shape, dtype),
            Device::Cuda(cuda) => {
                Self::in_block(Block::on(cuda, shape.count() * dtype.size())?, shape, dtype)
            }
        })
    }
    /// Arbitrary content, where this tensor is; a phantom if this is one.
    pub fn alike(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        Ok(Self::in_block(self.block.alike(shape.count() * dtype.size())?, shape, dtype))
    }
    /// Zeros, where this tensor is; a phantom if this is one.
    pub fn zeros_alike(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let mut zeros = self.alike(shape, dtype)?;
        if let Some(cuda) = zeros.cuda() {
            cuda.zero(zeros.address(), zeros.bytes())?;
        } else if let Some(block) = Arc::get_mut(&mut zeros.block).filter(|block| !block.is_phantom()) {
            block.bytes_mut().fill(0);
        }
        Ok(zeros)
    }
    /// `value` in every element, where this tensor is, which is no phantom.
    pub fn full_alike(&self, shape: impl Into<Shape>, dtype: DType, value: f32) -> Result<Self> {
        let shape = shape.into();
        let Some(cuda) = self.cuda() else {
            return Self::from_f64(shape, &vec![f64::from(value); shape.count()], DType::F64)?
                .to_dtype(dtype);
        };
        let full = self.alike(shape, dtype)?;
        let kernel = match dtype {
            DType::F32 => "fill_f32",
            DType::BF16 => "fill_bf16",
            DType::F64 => "fill_f64",
            other => unreachable!("{other:?} is no floating-point type of a device"),
        };
        cuda.launch_flat(kernel, shape.count(), &[&full.address(), &value, &(shape.count() as i32)])?;
        Ok(full)
    }
    fn in_block(block: Block, shape: Shape, dtype: DType) -> Self {
        Self { block: Arc::new(block), offset: 0, shape, dtype }
    }
    /// The device, if it is one of CUDA.
    pub fn cuda(&self) -> Option<&Arc<Cuda>> {
        Some(self.block.cuda()?.0)
    }
    pub fn device(&self) -> Device {
        self.cuda().map_or(Device::Cpu, |cuda| Device::Cuda(cuda.clone()))
    }
    /// Address of the first element on the device. Panics on a tensor in the host's memory: a bug of the caller.
    pub fn address(&self) -> u64 {
        match self.block.cuda() {
            Some((_, address)) => address + (self.offset * self.dtype.size()) as u64,
            None => panic!("{self:?} is on no device"),
        }
    }
    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.count() * self.dtype.size()
    }
    /// Copies the elements if anybody else holds them, so that writing disturbs nobody.
    pub fn make_unique(&mut self) -> Result<()> {
        if Arc::get_mut(&mut self.block).is_some() {
            return Ok(());
        }
        let mut own = self.alike(self.shape, self.dtype)?;
        if !self.block.is_phantom() {
            own.copy_from(self)?;
        }
        *self = own;
        Ok(())
    }
    /// Overwrites the elements with those of a tensor of the same shape and type, wherever the two are. Keeps the
    /// place, which nobody else may hold.
    pub fn copy_from(&mut self, other: &Self) -> Result<()> {
        assert_eq!((self.shape, self.dtype), (other.shape, other.dtype), "tensors of one kind");
        let (from, to, bytes) =
            (other.offset * self.dtype.size(), self.offset * self.dtype.size(), self.bytes());
        match (self.cuda(), other.cuda()) {
            (Some(cuda), Some(_)) => cuda.copy(other.address(), self.address(), bytes),
            (Some(cuda), None) => cuda.upload(&other.block.bytes()[from..][..bytes], self.address()),
            (None, there) => {
                let Some(block) = Arc::get_mut(&mut self.block) else { panic!("{self:?} is shared") };
                let to = &mut block.bytes_mut()[to..][..bytes];
                match there {
                    Some(cuda) => cuda.download(other.address(), to)?,
                    None => to.copy_from_slice(&other.block.bytes()[from..][..bytes]),
                }
                Ok(())
            }
        }
    }
    /// The same on `device`; shares the storage if it is there.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        match (device, self.cuda()) {
            (Device::Cpu, None) => return Ok(self.clone()),
            (Device::Cuda(to), Some(from)) if Arc::ptr_eq(to, from) => return Ok(self.clone()),
            (Device::Cuda(_), Some(_)) => return self.to_host()?.to_device(device),
            _ => {}
        }
        let mut there = Self::on(device, self.shape, self.dtype)?;
        there.copy_from(self)?;
        Ok(there)
    }
    /// The same in the host's memory; shares the storage if it is there.
    pub fn to_host(&self) -> Result<Self> {
        self.to_device(&Device::Cpu)
    }
    /// The value of a tensor of one element, wherever it is.
    pub fn read(&self) -> Result<f64> {
        Ok(self.to_host()?.item())
    }
}
