//! Ranges of the settings of a training: one sentence a problem, naming the key.

use super::TrainConfig;
use super::check::{
    MOST_IMAGES, check_seed, check_source, fraction, not_negative, one_of, positive, require, within,
};
use crate::data::{IMAGE_SIZES, SYNTHETIC_IMAGES};
use crate::error::Result;
use crate::space::network::NetworkConfig;

impl TrainConfig {
    pub(super) fn check(&self) -> Result<()> {
        self.check_data()?;
        let network = &self.network;
        one_of("network.kind", &network.kind, &["cifar", "imagenet"])?;
        require(network.channels >= 2 && network.channels.is_multiple_of(2), "network.channels", || {
            let channels = network.channels;
            format!(
                "{channels} channels cannot be split in two for factorised reduction; choose an even number from 2 on"
            )
        })?;
        within("network.channels", network.channels, 2, 4096)?;
        within("network.cells", network.cells, 1, 1000)?;
        self.check_training()?;
        within("run.threads", self.run.threads, 0, 4096)?;
        self.device()?;
        one_of("run.precision", &self.run.precision, &["f32", "bf16"])
    }

    fn check_data(&self) -> Result<()> {
        let data = &self.data;
        let synthetic = check_source(&data.name, &data.dir)?;
        if data.image_size > 0 {
            within("data.image_size", data.image_size, *IMAGE_SIZES.start(), *IMAGE_SIZES.end())?;
        }
        fraction("data.valid_portion", data.valid_portion)?;
        check_seed("data.seed", data.seed.unwrap_or_default())?;
        self.check_augmentation()?;
        if synthetic {
            let (least, most) = (*SYNTHETIC_IMAGES.start(), *SYNTHETIC_IMAGES.end());
            within("data.train_images", data.train_images, least, most)?;
        }
        match (data.image_size, data.name.as_str()) {
            (0, "idx") => Ok(()), // is checked once the files are read
            (0, _) => self.check_images([32, 32]),
            (size, _) => self.check_images([size, size]),
        }
    }

    fn check_augmentation(&self) -> Result<()> {
        let data = &self.data;
        one_of("data.augment", &data.augment, &["cifar", "imagenet"])?;
        require(data.crop_padding == 0 || !self.resized_crops(), "data.crop_padding", || {
            let padding = data.crop_padding;
            format!(
                "is {padding}, but --augment imagenet crops without padding; give --crop-padding 0 with it"
            )
        })?;
        require(data.crop_area > 0.0 && data.crop_area <= 1.0, "data.crop_area", || {
            format!("is {}, must be above 0 and at most 1", data.crop_area)
        })?;
        for (key, range, most) in [("data.jitter", data.jitter, 1.0), ("data.hue", data.hue, 0.5)] {
            require((0.0..=most).contains(&range), key, || format!("is {range}, must be from 0 to {most}"))?;
        }
        Ok(())
    }

    /// What a training asks of the images that it was given.
    pub fn check_images(&self, [height, width]: [usize; 2]) -> Result<()> {
        let (kind, network, data) = (self.kind(), &self.network, &self.data);
        let auxiliary = self.train.auxiliary_weight > 0.0;
        let config = NetworkConfig { kind, cells: network.cells, auxiliary, ..NetworkConfig::default() };
        config.check_images([height, width])?;
        let size = height.min(width);
        require(data.crop_padding < size, "data.crop_padding", || {
            format!("is {}, must be less than data.image_size, {size}", data.crop_padding)
        })?;
        require(data.cutout <= size, "data.cutout", || {
            format!("is {}, must not exceed data.image_size, {size}", data.cutout)
        })
    }

    fn check_training(&self) -> Result<()> {
        let train = &self.train;
        check_seed("train.seed", train.seed)?;
        within("train.epochs", train.epochs, 1, 1_000_000)?;
        within("train.batch_size", train.batch_size, 2, MOST_IMAGES)?;
        positive("train.learning_rate", train.learning_rate)?;
        one_of("train.schedule", &train.schedule, &["cosine", "step"])?;
        not_negative("train.learning_rate_min", train.learning_rate_min)?;
        require(train.learning_rate_min <= train.learning_rate, "train.learning_rate_min", || {
            let (min, max) = (train.learning_rate_min, train.learning_rate);
            format!("is {min}, must not exceed train.learning_rate, {max}")
        })?;
        positive("train.gamma", train.gamma)?;
        within("train.gamma_epochs", train.gamma_epochs, 1, 1_000_000)?;
        within("train.warmup_epochs", train.warmup_epochs, 0, 1_000_000)?;
        fraction("train.momentum", train.momentum)?;
        not_negative("train.weight_decay", train.weight_decay)?;
        positive("train.grad_clip", train.grad_clip)?;
        fraction("train.label_smoothing", train.label_smoothing)?;
        not_negative("train.auxiliary_weight", train.auxiliary_weight)?;
        fraction("train.drop_path", train.drop_path)
    }
}
