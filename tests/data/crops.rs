//! Crops of random size and shape, changes of colour, and batches of images of any size.

use image::{Rgb, RgbImage};
use oche::data::colour::{Change, Jitter};
use oche::data::loader;
use oche::data::pictures::Pictures;
use oche::data::resized_crop::{ResizedCrop, Window};
use oche::data::{ImageSet, synthetic};
use oche::tensor::{DType, Tensor};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;

/// Four RGB pixels: two of colour, a grey, a saturated one.
const PIXELS: [f32; 12] = [0.1, 0.4, 0.9, 0.8, 0.2, 0.3, 0.5, 0.5, 0.5, 1.0, 0.0, 0.25];

fn changed(change: Change) -> [f32; 12] {
    let mut pixels = PIXELS;
    change.apply(&mut pixels, 3);
    pixels
}

/// Computed by torchvision 0.29.2, `adjust_brightness` to `adjust_hue`, on the same pixels.
#[test]
fn colours_change_as_in_torchvision() {
    for (change, expected) in [
        (Change::Brightness(1.3), [0.13, 0.52, 1.0, 1.0, 0.26, 0.39, 0.65, 0.65, 0.65, 1.0, 0.0, 0.325]),
        (
            Change::Contrast(0.7),
            [
                0.188902, 0.398902, 0.748902, 0.678902, 0.258902, 0.328902, 0.468902, 0.468902, 0.468902,
                0.818902, 0.118902, 0.293902,
            ],
        ),
        (
            Change::Saturation(1.4),
            [0.0, 0.413084, 1.0, 0.963712, 0.123712, 0.263712, 0.50002, 0.50002, 0.50002, 1.0, 0.0, 0.21904],
        ),
        (Change::Hue(0.15), [0.520001, 0.1, 0.9, 0.8, 0.64, 0.2, 0.5, 0.5, 0.5, 1.0, 0.65, 0.0]),
        (Change::Hue(-0.2), [0.1, 0.9, 0.440001, 0.58, 0.2, 0.8, 0.5, 0.5, 0.5, 0.55, 0.0, 1.0]),
    ] {
        for (got, expected) in changed(change).iter().zip(expected) {
            assert!((got - expected).abs() < 3e-6, "{change:?}: {got} {expected}");
        }
    }
}

proptest! {
    #[test]
    fn factors_of_one_and_turns_of_none_or_all_change_nothing(pixels in prop::collection::vec(0f32..1.0, 12)) {
        for change in [Change::Brightness(1.0), Change::Contrast(1.0), Change::Saturation(1.0), Change::Hue(0.0), Change::Hue(1.0)] {
            let mut same = pixels.clone();
            change.apply(&mut same, 3);
            for (a, b) in same.iter().zip(&pixels) {
                prop_assert!((a - b).abs() < 1e-5, "{change:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn turns_of_hue_add_up_and_leave_grey_alone(
        pixels in prop::collection::vec(0f32..1.0, 12), grey in 0f32..1.0, a in -0.5f32..0.5, b in -0.5f32..0.5,
    ) {
        let (mut twice, mut once, mut none) = (pixels.clone(), pixels, vec![grey; 12]);
        Change::Hue(a).apply(&mut twice, 3);
        Change::Hue(b).apply(&mut twice, 3);
        Change::Hue(a + b).apply(&mut once, 3);
        for (x, y) in twice.iter().zip(&once) {
            prop_assert!((x - y).abs() < 1e-4, "{x} {y}");
        }
        Change::Hue(a).apply(&mut none, 3);
        Change::Saturation(1.0 + a).apply(&mut none, 1); // without colour there is nothing to change
        prop_assert_eq!(none, vec![grey; 12]);
    }

    #[test]
    fn draws_stay_within_their_ranges_and_nothing_is_drawn_of_none(seed: u64, on in any::<[bool; 4]>()) {
        let range = |k: usize, most: f64| if on[k] { most } else { 0.0 };
        let jitter = Jitter { factors: [range(0, 0.4), range(1, 0.3), range(2, 0.2)], hue: range(3, 0.1) };
        let changes = jitter.draw(&mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(changes.len(), on.iter().filter(|on| **on).count());
        for change in changes {
            let (k, x, most) = match change {
                Change::Brightness(f) => (0, f - 1.0, 0.4),
                Change::Contrast(f) => (1, f - 1.0, 0.3),
                Change::Saturation(f) => (2, f - 1.0, 0.2),
                Change::Hue(turn) => (3, turn, 0.1),
            };
            prop_assert!(on[k] && x.abs() <= most + 1e-6, "{change:?}");
        }
    }

    /// Up to half a pixel, which is what rounding moves a side by.
    #[test]
    fn windows_lie_inside_and_keep_to_area_and_shape(
        [height, width] in [8usize..500, 8usize..500], least in 0.01f64..1.0, seed: u64,
    ) {
        let Window { corner, size } = Window::random([height, width], least, &mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert!(corner[0] + size[0] <= height && corner[1] + size[1] <= width && size[0] > 0 && size[1] > 0);
        let [h, w] = size.map(|side| side as f64);
        prop_assert!((w - 0.5) / (h + 0.5) <= 4.0 / 3.0 && (w + 0.5) / (h - 0.5) >= 0.75, "{size:?}");
        let whole = (height * width) as f64;
        let central = [height - size[0], width - size[1]].map(|rest| rest / 2) == corner && (size[0] == height || size[1] == width);
        prop_assert!(central || (h + 0.5) * (w + 0.5) >= least * whole, "{size:?} of {height} x {width}");
    }
}

#[test]
fn all_sizes_shapes_orders_and_places_come_up() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let windows: Vec<Window> = (0..2000).map(|_| Window::random([100, 100], 0.08, &mut rng)).collect();
    let area = |w: &Window| (w.size[0] * w.size[1]) as f64 / 1e4;
    let mean = windows.iter().map(area).sum::<f64>() / 2000.0;
    assert!((0.4..0.56).contains(&mean), "{mean}"); // uniform over 0.08 to 1, but for the large ones that do not fit
    assert!(windows.iter().any(|w| area(w) < 0.1) && windows.iter().any(|w| area(w) > 0.85));
    let wide = windows.iter().filter(|w| w.size[1] > w.size[0]).count();
    assert!((800..1200).contains(&wide), "{wide}");
    assert!(windows.iter().any(|w| w.corner == [0, 0]) || windows.iter().any(|w| w.corner[0] > 60));
    let jitter = Jitter { factors: [0.4; 3], hue: 0.2 };
    let kinds = |_| jitter.draw(&mut rng).iter().map(std::mem::discriminant).collect::<Vec<_>>();
    let mut orders: Vec<_> = vec![];
    for order in (0..600).map(kinds) {
        if !orders.contains(&order) {
            orders.push(order);
        }
    }
    assert_eq!(orders.len(), 24);
}

fn augment(size: usize, least_area: f64, flip: bool) -> ResizedCrop {
    let jitter = Jitter { factors: [0.4; 3], hue: 0.2 };
    ResizedCrop { size: [size; 2], least_area, flip, jitter, cutout: None }
}

fn bits(batch: &Tensor) -> Vec<u32> {
    batch.as_slice::<f32>().iter().map(|x| x.to_bits()).collect()
}

/// The whole image without a change is the image as it is.
#[test]
fn a_crop_of_everything_is_the_image() {
    let set = synthetic(16, 20, 3).unwrap().train;
    let all: Vec<usize> = (0..20).collect();
    let plain = loader::batch(&set, &all, None, DType::F32).unwrap();
    let nothing = ResizedCrop { jitter: Jitter::default(), ..augment(16, 1.0, false) };
    let same = Pictures::of(set).training_batch(&all, (&nothing, 1, 2, 3)).unwrap();
    assert_eq!(same.labels.as_slice::<u32>(), plain.labels.as_slice::<u32>());
    for (a, b) in same.images.as_slice::<f32>().iter().zip(plain.images.as_slice::<f32>()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn a_batch_is_a_function_of_seed_epoch_and_step() {
    let pictures = Pictures::of(synthetic(16, 20, 3).unwrap().train);
    let all: Vec<usize> = (0..20).collect();
    let augment = ResizedCrop { cutout: Some(4), ..augment(12, 0.08, true) };
    let draw = |seed, epoch, step| {
        bits(&pictures.training_batch(&all, (&augment, seed, epoch, step)).unwrap().images)
    };
    let first = draw(1, 2, 3);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert!(first == one.install(|| draw(1, 2, 3)), "threads");
    for other in [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)] {
        assert!(first != other);
    }
    let twice = pictures.training_batch(&[7, 7], (&augment, 1, 2, 3)).unwrap().images;
    let (a, b) = (twice.view(0, [12 * 12 * 3]), twice.view(12 * 12 * 3, [12 * 12 * 3]));
    assert!(bits(&a) != bits(&b), "each place of a batch draws for itself");
    assert!(pictures.training_batch(&[20], (&augment, 1, 2, 3)).is_err());
}

/// To test on: the middle of what has a margin of an eighth, so an image mirrored gives the mirrored result.
#[test]
fn test_images_are_central() {
    let size = 28; // 32 with its margin
    let ramp = |mirrored: bool| {
        let value = move |x: usize| (8 * if mirrored { 31 - x } else { x }) as u8;
        let image: Vec<u8> = (0..32 * 32).map(|i| value(i % 32)).collect();
        let mut set =
            ImageSet::new([image.clone(), image].concat(), vec![0, 1], [32, 32, 1], &["a", "b"]).unwrap();
        (set.mean, set.std) = (vec![0.0], vec![1.0]);
        Pictures::of(set).test_batch(&[0], [size; 2]).unwrap().images
    };
    let (plain, mirrored) = (ramp(false), ramp(true));
    let (plain, mirrored) = (plain.as_slice::<f32>(), mirrored.as_slice::<f32>());
    assert_eq!(plain.len(), size * size);
    for (i, x) in plain.iter().enumerate() {
        assert_eq!(*x, (8 * (2 + i % size)) as f32 / 255.0);
        assert_eq!(*x, mirrored[i / size * size + size - 1 - i % size]);
    }
}

fn save(path: &Path, [width, height]: [u32; 2], colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, Rgb(colour)).save(path).unwrap();
}

#[test]
fn files_of_any_size_are_read_as_they_are_needed() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for (path, size, colour) in [
        ("train/cat/1.png", [40, 20], [255, 0, 0]),
        ("train/cat/2.png", [9, 300], [0, 255, 0]),
        ("train/dog/1.png", [16, 16], [0, 0, 255]),
        ("val/cat/1.png", [100, 31], [255, 255, 255]),
        ("val/dog/1.png", [7, 7], [0, 0, 0]),
    ] {
        save(&at(path), size, colour);
    }
    let (train, test) = Pictures::folder(root.path()).unwrap();
    let test = test.unwrap();
    assert_eq!((train.len(), test.len(), train.channels(), train.bytes()), (3, 2, 3, 0));
    assert_eq!(train.classes(), ["cat", "dog"]);
    let plain = ResizedCrop { jitter: Jitter::default(), ..augment(8, 0.08, true) };
    let batch = train.training_batch(&[2, 0, 1], (&plain, 1, 0, 0)).unwrap();
    assert_eq!(batch.labels.as_slice::<u32>(), [1, 0, 0]);
    assert_eq!(batch.images.shape().dims(), [3, 8, 8, 3]);
    // one colour stays one colour, whatever is cropped
    for (image, colour) in
        batch.images.as_slice::<f32>().chunks(8 * 8 * 3).zip([[0., 0., 1.], [1., 0., 0.], [0., 1., 0.]])
    {
        for pixel in image.chunks(3) {
            for (c, x) in pixel.iter().enumerate() {
                let (mean, std) = ([0.485, 0.456, 0.406][c], [0.229, 0.224, 0.225][c]);
                assert!((x - (colour[c] - mean) / std).abs() < 1e-5, "{pixel:?}");
            }
        }
    }
    assert_eq!(test.test_batch(&[0, 1], [8, 8]).unwrap().images.shape().dims(), [2, 8, 8, 3]);
    // what is damaged further on is told when it is read, what is no image before
    let whole = fs::read(at("train/dog/1.png")).unwrap();
    fs::write(at("train/dog/1.png"), &whole[..whole.len() - 20]).unwrap();
    let (train, _) = Pictures::folder(root.path()).unwrap();
    let error = train.training_batch(&[0, 2], (&plain, 1, 0, 0)).unwrap_err().to_string();
    assert!(error.contains("1.png: cannot be read as an image"), "{error}");
    fs::write(at("train/dog/1.png"), "a dog").unwrap();
    let error = Pictures::folder(root.path()).unwrap_err().to_string();
    assert!(error.contains("1.png: cannot be read as an image"), "{error}");
    let error = Pictures::folder(&at("train")).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("1.png"), "{error}");
    fs::remove_dir_all(at("train/dog")).unwrap();
    let error = Pictures::folder(&at("train")).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("2 training image(s) of 1 class(es)"), "{error}");
}
