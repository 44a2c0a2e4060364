"""Trains the network of a genotype in PyTorch, as `train` does: to time a step, or to see what accuracy it reaches.

    torch_train.py time GENOTYPE.json [--channels-last]     a line of JSON: seconds of each step, peak resident bytes
    torch_train.py accuracy GENOTYPE.json CIFAR10 --seed N  a line of JSON: test accuracy after each epoch

The loss of the auxiliary head counts 0.4, paths are dropped with probability 0.1 where time is taken; without both where
accuracy is.
"""

import argparse
import gzip
import json
import pathlib
import resource
import time

import torch
from torch import nn
from torch.nn import functional

import torch_networks

MEAN, STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)


def with_paths_dropped(network, rate):
    """The published drop path: a path that is no identity is zero for some images, and larger for the others."""

    def dropped(_module, _inputs, y):
        keep = torch.empty(y.shape[0], 1, 1, 1).bernoulli_(1 - rate)
        return y / (1 - rate) * keep

    for cell in network.cells:
        for op in cell._ops:
            if not isinstance(op, nn.Identity):
                op.register_forward_hook(dropped)


class Training:
    def __init__(self, network, auxiliary, channels_last=False):
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network, self.auxiliary = network.to(memory_format=self.layout), auxiliary
        if auxiliary:
            cell = network.cells[2 * len(network.cells) // 3]
            cell.register_forward_hook(lambda _module, _inputs, y: setattr(self, "at_head", y))
        self.optimizer = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

    def step(self, images, labels):
        self.optimizer.zero_grad()
        images = images.contiguous(memory_format=self.layout)
        loss = functional.cross_entropy(self.network(images), labels)
        if self.auxiliary:
            head = self.network.auxiliary_head(self.at_head)
            loss = loss + 0.4 * functional.cross_entropy(head, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        return loss.item()


def cifar10(folder, files):
    whole = []
    for name in files:
        path = pathlib.Path(folder) / name
        packed = path.with_name(path.name + ".gz")
        whole.append(path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes()))
    rows = torch.frombuffer(bytearray(b"".join(whole)), dtype=torch.uint8).view(-1, 3073)
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (MEAN, STD))
    return (rows[:, 1:].view(-1, 3, 32, 32) / 255.0 - mean) / std, rows[:, 0].long()


def augmented(images):
    """A crop of the image with 4 black pixels around it, as before it was normalised, half of them mirrored."""
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (MEAN, STD))
    padded, out = functional.pad(images + mean / std, (4, 4, 4, 4)) - mean / std, torch.empty_like(images)
    places = torch.randint(0, 9, (len(images), 2)).tolist()
    mirrored = (torch.rand(len(images)) < 0.5).tolist()
    for to, image, (y, x), mirror in zip(out, padded, places, mirrored):
        crop = image[:, y : y + 32, x : x + 32]
        to.copy_(crop.flip(2) if mirror else crop)
    return out


def take_time(args, genotype):
    torch.manual_seed(2)
    network = torch_networks.Found(genotype, False, args.channels, args.cells, 10, True)
    with_paths_dropped(network, 0.1)
    training = Training(network, True, args.channels_last)
    images, labels = torch.randn(args.batch_size, 3, 32, 32), torch.randint(10, (args.batch_size,))
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        training.step(images, labels)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"all_seconds": seconds[1:], "peak_bytes": peak}


def take_accuracy(args, genotype):
    torch.manual_seed(args.seed)
    train = cifar10(args.data, [f"data_batch_{k}.bin" for k in range(1, 6)])
    test = cifar10(args.data, ["test_batch.bin"])
    network = torch_networks.Found(genotype, False, args.channels, args.cells, 10, False)
    training = Training(network, False, channels_last=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(training.optimizer, args.epochs)
    accuracies = []
    for _ in range(args.epochs):
        network.train()
        for chosen in torch.randperm(len(train[1])).split(args.batch_size):
            training.step(augmented(train[0][chosen]), train[1][chosen])
        schedule.step()
        network.eval()
        with torch.no_grad():
            batches = zip(test[0].split(500), test[1].split(500))
            right = sum((network(x).argmax(1) == y).sum().item() for x, y in batches)
        accuracies.append(100.0 * right / len(test[1]))
    return {"seed": args.seed, "accuracies": accuracies}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("time", "accuracy"))
    parser.add_argument("genotype", help="genotype.json")
    parser.add_argument("data", nargs="?", help="folder of CIFAR-10's binary files")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    genotype = json.loads(pathlib.Path(args.genotype).read_text())
    run = {"time": take_time, "accuracy": take_accuracy}[args.what]
    print(json.dumps(run(args, genotype)), flush=True)


if __name__ == "__main__":
    main()
