//! A candidate operation of one's own, searched beside the published ones and then trained in the network that was
//! found: `cargo run --release --example own_operation`.

use oche::data::augment::Augment;
use oche::data::{self, loader, split};
use oche::nn::{Context, Conv2d, Norm, Sgd};
use oche::ops::pointwise::Relu;
use oche::ops::window::Window;
use oche::search::{Order, Search, Settings};
use oche::space::candidate::{Candidate, Place, State, Term};
use oche::space::network::{Network, NetworkConfig};
use oche::space::{Operation, Space};
use oche::tape::Builder;
use oche::tensor::DType;
use oche::train::{Hyper, Trainer};

/// An inverted bottleneck: 1 x 1 to twice the channels, relu, depthwise 3 x 3, 1 x 1 back, batch norm.
#[derive(Debug)]
struct Bottleneck {
    widen: Conv2d,
    depthwise: Conv2d,
    narrow: Conv2d,
    norm: Norm,
}

impl Bottleneck {
    fn new(b: &mut Builder, place: Place) -> Self {
        let (c, wide) = (place.channels, 2 * place.channels);
        Self {
            widen: Conv2d::pointwise(b, "widen", c, wide),
            depthwise: Conv2d::depthwise(b, "depthwise", wide, Window::same(3, place.stride, 1)),
            narrow: Conv2d::pointwise(b, "narrow", wide, c),
            norm: Norm::new(b, "norm", c, place.affine),
        }
    }
}

impl Candidate for Bottleneck {
    /// Gradients of every order follow from those of the operations.
    fn forward(&self, cx: &mut Context, input: &mut State) -> oche::Result<Option<Term>> {
        let x = self.widen.forward(cx, input.x)?;
        let x = cx.tape.apply(Relu, &[x])?;
        let x = self.depthwise.forward(cx, x)?;
        let x = self.narrow.forward(cx, x)?;
        Ok(Some(Term::new(x, Some(self.norm))))
    }
}

pub fn main() -> oche::Result<()> {
    let bottleneck = Operation::new("bottleneck_3x3", |b, place| Ok(Box::new(Bottleneck::new(b, place))))?;
    let space = Space::published(1, &["none", "skip_connect", "max_pool_3x3"])?.with(&bottleneck);
    let data = data::synthetic(16, 100, 0)?;
    let settings = Settings {
        channels: 4,
        cells: 2,
        order: Order::Second,
        epochs: 2,
        batch_size: 10,
        ..Settings::default()
    };
    let search = Search::new(&space, data.train.clone(), settings)?;
    println!("cells are not fused, for {}", search.searcher().net().unfused().join(", "));
    let genotype = search.run(|epoch| println!("{epoch}"))?;
    println!("{genotype}");

    // what was found, read back and trained from scratch
    let operations = space.operations()?;
    let genotype = operations.parse(&genotype.to_string())?;
    let config = NetworkConfig { channels: 4, cells: 2, ..NetworkConfig::default() };
    let network = Network::of(&genotype, &operations, config)?;
    let sgd = Sgd { momentum: 0.9, weight_decay: 3e-4 };
    let hyper = Hyper { sgd, clip: 5.0, smoothing: 0.0, auxiliary: 0.0 };
    let mut trainer = Trainer::new(network, hyper, 0, DType::F32)?;
    let (all, augment): (Vec<usize>, _) =
        ((0..data.train.len()).collect(), Augment { crop_padding: 2, flip: true, cutout: None });
    for epoch in 0..4 {
        for (step, chosen) in split::epoch_order(&all, 0, epoch).chunks(10).enumerate() {
            let draw = (&augment, 0, epoch, step as u64);
            trainer.step(&loader::batch(&data.train, chosen, Some(draw), DType::F32)?, None, 0.05)?;
        }
        if let Some(test) = &data.test {
            let indices: Vec<usize> = (0..test.len()).collect();
            let (loss, hits) = trainer.evaluate(&loader::batch(test, &indices, None, DType::F32)?)?;
            println!(
                "trained epoch {}  test loss {loss:.4}  {} of {} right",
                epoch + 1,
                hits.top1,
                test.len()
            );
        }
    }
    Ok(())
}
