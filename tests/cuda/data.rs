//! Batches and random words that a device makes by itself, against those of the CPU.

use super::{bits, device};
use oche::data::ImageSet;
use oche::data::augment::{Augment, Draw};
use oche::data::loader::batch;
use oche::data::resident::Resident;
use oche::device::Device;
use oche::device::random::{words, words_on};
use oche::tensor::{DType, Tensor};
use proptest::prelude::*;

fn set(count: usize, [height, width, channels]: [usize; 3]) -> ImageSet {
    let len = count * height * width * channels;
    ImageSet {
        images: (0..len).map(|i| (i * 37 % 251 + 1) as u8).collect(),
        labels: (0..count as u32).map(|i| i % 3).collect(),
        height,
        width,
        channels,
        classes: ["a", "b", "c"].map(String::from).to_vec(),
        mean: [0.5, 0.25, 0.125][..channels].to_vec(),
        std: [0.25, 0.5, 0.75][..channels].to_vec(),
    }
}

/// The batch that `resident` makes, in the host's memory.
fn filled(
    resident: &Resident,
    device: &Device,
    indices: &[usize],
    augment: Option<Draw>,
    dtype: DType,
) -> [Tensor; 2] {
    let [h, w, c] = resident.image();
    let mut images = Tensor::on(device, [indices.len(), h, w, c], dtype).unwrap();
    let mut labels = Tensor::on(device, [indices.len()], DType::U32).unwrap();
    resident.fill(indices, augment, &mut images, &mut labels).unwrap();
    [images, labels].map(|t| t.to_host().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn emulated_batches_have_the_bits_of_the_cpus(
        size in (1usize..12, 1usize..12, prop_oneof![Just(1usize), Just(3)]),
        indices in prop::collection::vec(0usize..7, 1..9),
        augment in prop::option::of((0usize..5, any::<bool>(), prop::option::of(0usize..9))),
        key: [u64; 3],
    ) {
        let (device, _turn) = device();
        let set = set(7, [size.0, size.1, size.2]);
        let augment = augment.map(|(crop_padding, flip, cutout)| Augment { crop_padding, flip, cutout });
        let draw = augment.as_ref().map(|augment| (augment, key[0], key[1], key[2]));
        let resident = Resident::new(&set, &device, 8).unwrap();
        let expected = batch(&set, &indices, draw, DType::F32).unwrap();
        let [images, labels] = filled(&resident, &device, &indices, draw, DType::F32);
        prop_assert_eq!(bits(&images), bits(&expected.images));
        prop_assert_eq!(labels.as_slice::<u32>(), expected.labels.as_slice::<u32>());
        let [images, _] = filled(&resident, &device, &indices, draw, DType::BF16);
        prop_assert_eq!(bits(&images), bits(&expected.images.to_dtype(DType::BF16).unwrap()));
    }
}

#[test]
fn emulated_batches_are_refused_if_they_do_not_fit() {
    let (device, _turn) = device();
    let resident = Resident::new(&set(3, [2, 2, 1]), &device, 2).unwrap();
    let tensor = |shape: &[usize], dtype| Tensor::on(&device, shape, dtype).unwrap();
    let complaint = |indices: &[usize], images: &[usize], dtype, labels: &[usize]| {
        let (mut images, mut labels) = (tensor(images, dtype), tensor(labels, DType::U32));
        resident.fill(indices, None, &mut images, &mut labels).unwrap_err().to_string()
    };
    let says = |complaint: String, part: &str| assert!(complaint.contains(part), "{complaint}");
    says(complaint(&[0, 3], &[2, 2, 2, 1], DType::F32, &[2]), "image 3 was asked of a set of 3");
    says(complaint(&[0, 1, 2], &[3, 2, 2, 1], DType::F32, &[3]), "3 images");
    says(complaint(&[0, 1], &[1, 2, 2, 1], DType::F32, &[2]), "images");
    says(complaint(&[0, 1], &[2, 2, 2, 1], DType::F64, &[2]), "F64");
    says(complaint(&[0, 1], &[2, 2, 2, 1], DType::F32, &[1]), "labels");
    assert!(Resident::new(&set(1, [1, 1, 1]), &Device::Cpu, 1).is_err());
}

#[test]
fn emulated_words_are_those_of_the_cpu() {
    let (device, _turn) = device();
    // also over the end of a counter's lower half
    for (key, count) in [([0, 1 << 40, 5], 1031), ([7, 3, u64::from(u32::MAX) - 1], 64), ([1, 2, 3], 2)] {
        let [seed, stream, from] = key;
        let there = Tensor::on(&device, [count], DType::U32).unwrap();
        words_on(device.cuda().unwrap(), key, there.address(), count).unwrap();
        let expected: Vec<u32> =
            (from..).flat_map(|counter| words(seed, stream, counter)).take(count).collect();
        assert_eq!(there.to_host().unwrap().as_slice::<u32>(), expected);
    }
    let [seed, stream, from] = [0x299f31d0_a4093822, 0x03707344_13198a2e, 0x85a308d3_243f6a88];
    let there = Tensor::on(&device, [4], DType::U32).unwrap();
    words_on(device.cuda().unwrap(), [seed, stream, from], there.address(), 4).unwrap();
    let known = [0xd16cfe09u32, 0x94fdcceb, 0x5001e420, 0x24126ea1];
    assert_eq!(there.to_host().unwrap().as_slice::<u32>(), known);
}
