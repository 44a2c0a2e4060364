"""The checks of scripts/torch-check, which says what they are."""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from torch_networks import Found, Search, draw, fill, spread

TOLERANCE = 1e-4
CANDIDATES = [
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
]  # fmt: skip
# genotype, network, auxiliary head, pixels
NETWORKS = [
    ("DARTS_V2", "cifar", False, 16),
    ("DARTS_V1", "cifar", True, 32),
    ("NASNet", "cifar", True, 32),
    ("AmoebaNet", "cifar", False, 8),
    ("SNAS_aggressive", "cifar", False, 16),
    ("PDARTS", "cifar", False, 16),
    ("AmoebaNet", "imagenet", False, 64),
    ("DARTS_V2", "imagenet", True, 224),
]
CHANNELS, CELLS, NODES = 4, 5, 3


class Program:
    def __init__(self, folder, scratch):
        self.folder, self.scratch = pathlib.Path(folder), scratch

    def __call__(self, name, *words):
        command = [str(self.folder / name), *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode != 0:
            raise SystemExit(f"torch-check: {' '.join(command)}: {ended.stderr.strip()}")
        return ended.stdout

    def genotype(self, name):
        return json.loads(self("inspect", "genotype", name, "--json"))

    def logits(self, images, *network):
        """What `inspect evaluate` gives for the images."""
        given, out = self.scratch / "images.safetensors", self.scratch / "logits.safetensors"
        save_file({"images": images}, given)
        self("inspect", "evaluate", *network, "--images", given, "--logits", out, "--batch-size", 3)
        return load_file(out)["logits"]


def compare(what, ours, theirs):
    error = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))
    spread = float(theirs.std(dim=0).max())
    print(f"{what:<66} {error:.1e}", flush=True)
    if not error <= TOLERANCE or ours.shape != theirs.shape:
        raise SystemExit(f"torch-check: {what}: logits differ by {error}")
    if spread < 1e-5:
        raise SystemExit(f"torch-check: {what}: all images have the same logits, so nothing was compared")


def found(program, name, kind, auxiliary, pixels, generator):
    scratch, genotype = program.scratch, program.genotype(name)
    title = f"{name}, {kind}, {pixels} pixels{', auxiliary head' if auxiliary else ''}"
    images = torch.randn(5, 3, pixels, pixels, generator=generator)
    network = Found(genotype, kind == "imagenet", CHANNELS, CELLS, 10, auxiliary)

    # ours in PyTorch
    run, weights = scratch / f"{name}-{kind}-{pixels}", scratch / "weights.safetensors"
    size = ("--channels", CHANNELS, "--cells", CELLS, "--image-size", pixels, "--crop-padding", 1)
    size += ("--network", kind, "--auxiliary-weight", 0.4 if auxiliary else 0)
    training = ("--train-images", 40, "--batch-size", 8, "--epochs", 1, "--device", "cpu", "--quiet")
    program("train", "--genotype", name, *size, *training, "--out", run)
    program("inspect", "export", run, "--weights", weights)
    network.load_state_dict(load_file(weights), strict=True)
    with torch.no_grad():
        compare(f"{title}: trained here", program.logits(images, run), network.eval()(images))

    # PyTorch's here: as it is, of DataParallel, of an old version, in half precision
    draw(network, generator)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    variants = {
        "of PyTorch": state,
        "of DataParallel": {f"module.{key}": value for key, value in state.items()},
        "of PyTorch 0.3": {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
        "in float16": {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
        "in bfloat16": {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()},
    }
    for which, variant in variants.items():
        save_file(variant, weights)
        same = {key.removeprefix("module."): value for key, value in variant.items()}
        network.load_state_dict(same, strict=which != "of PyTorch 0.3")
        with torch.no_grad():
            compare(f"{title}: {which}", program.logits(images, weights, "--genotype", name), network(images))
    save_file(state, weights)
    again, out = scratch / f"{name}-{kind}-{pixels}-again", scratch / "again.safetensors"
    program("train", "--genotype", name, *size, *training, "--max-steps", 1, "--weights", weights, "--out", again)
    program("inspect", "export", again, "--weights", out)
    tracked = load_file(out)["cells.0.preprocess1.op.2.num_batches_tracked"]
    if int(tracked) != 8:
        raise SystemExit(f"torch-check: {title}: a step on PyTorch's weights counts as batch {tracked}, not 8")


def search(program, generator):
    scratch = program.scratch
    run, weights = scratch / "search", scratch / "weights.safetensors"
    size = ("--channels", CHANNELS, "--cells", CELLS, "--nodes", NODES, "--image-size", 16)
    data = ("--train-images", 60, "--batch-size", 8, "--epochs", 1, "--device", "cpu", "--quiet")
    program("search", *size, *data, "--alpha-init-scale", 1, "--out", run)
    program("inspect", "export", run, "--weights", weights)
    network = Search(CANDIDATES, CHANNELS, CELLS, NODES, 10)
    network.load_state_dict(load_file(weights), strict=True)
    network.eval()
    stored = load_file(run / "checkpoint.safetensors")
    alphas = {kind: stored[f"alphas_{kind}"] for kind in ("normal", "reduce")}
    images = torch.randn(5, 3, 16, 16, generator=generator)
    with torch.no_grad():
        compare("search: searched here", program.logits(images, run), network(images, alphas))
    save_file(draw(network, generator).state_dict(), weights)
    program("search", *size, *data, "--max-steps", 1, "--weights", weights, "--out", scratch / "again")
    out = scratch / "again.safetensors"
    program("inspect", "export", scratch / "again", "--weights", out)
    before, after = load_file(weights), load_file(out)
    if before.keys() != after.keys() or int(after["stem.1.num_batches_tracked"]) != 8:
        raise SystemExit("torch-check: search --weights did not start from PyTorch's weights")
    # one step of clipped SGD at rate 0.025 moves a weight by at most 0.025 times the clip and the decay
    moved = max(float((after[k] - before[k]).abs().max()) for k in before if k.endswith(".weight"))
    if not 0 < moved < 0.13:
        raise SystemExit(f"torch-check: search --weights: a step moved a weight by {moved}")
    print(f"{'search: a step from the weights of PyTorch':<66} moved by {moved:.1e}")


def golden(folder, generator):
    """Small networks of the genotypes in `folder`, their images and their logits, computed in float64."""
    folder = pathlib.Path(folder)

    def write(name, network, images, *alphas):
        state = {key: value.clone() for key, value in network.state_dict().items()}
        save_file(state, folder / f"{name}.safetensors", {"format": "pt"})
        exact = [{kind: alpha.double() for kind, alpha in given.items()} for given in alphas]
        with torch.no_grad():
            logits = network.double()(images.double(), *exact)
        tensors = {"images": images, "logits": logits}
        for given in alphas:
            tensors |= {f"alphas_{kind}": alpha for kind, alpha in given.items()}
        save_file(tensors, folder / f"{name}.logits.safetensors")

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    for name, pixels, large in [("cifar", 12, 32), ("imagenet", 32, 224)]:
        genotype = json.loads((folder / f"{name}.json").read_text())
        # the auxiliary head has many weights and needs large images: both follow from names
        network = fill(Found(genotype, name == "imagenet", 2, 3, 4, True)).double()
        images = (spread("images", (2, 3, large, large)) - 0.5) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
        with torch.no_grad():
            logits, auxiliary = network.both(images.float().double())
        save_file({"logits": logits, "auxiliary": auxiliary}, folder / f"{name}.auxiliary.safetensors")
        network = draw(Found(genotype, name == "imagenet", 2, 3, 4, False), generator)
        write(name, network, random(3, 3, pixels, pixels))
    network = draw(Search(CANDIDATES, 2, 3, 2, 4), generator)
    write("search", network, random(3, 3, 8, 8), {kind: random(5, 8) for kind in ("normal", "reduce")})
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:>8} {file}")


def main():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    if sys.argv[1] == "--golden":
        golden(sys.argv[2], generator)
        return
    with tempfile.TemporaryDirectory() as scratch:
        program = Program(sys.argv[1], pathlib.Path(scratch))
        search(program, generator)
        for network in NETWORKS:
            found(program, *network, generator)
    print("all logits agree")


if __name__ == "__main__":
    main()
