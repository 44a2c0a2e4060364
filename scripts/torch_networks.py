"""The networks of the DARTS paper in PyTorch, with the attributes of the published code, so that a state_dict has its names.

Sections 3 and A of arXiv 1806.09055; evaluation and search networks differ in what follows a pool and in the affine part
of batch norms. Only what a pass in evaluation mode needs is here: no drop path.
"""

import math
import zlib

import torch
from torch import nn
from torch.nn import functional


def norm(channels, affine):
    return nn.BatchNorm2d(channels, affine=affine)


def conv(c_in, c_out, kernel, stride=1, padding=0, dilation=1, groups=1):
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)


class Chain(nn.Module):
    """Modules in a row under the name `op`."""

    def __init__(self, *modules):
        super().__init__()
        self.op = nn.Sequential(*modules)

    def forward(self, x):
        return self.op(x)


def relu_conv_bn(c_in, c_out, affine):
    return Chain(nn.ReLU(), conv(c_in, c_out, 1), norm(c_out, affine))


def separable(c, size, stride, affine):
    depthwise = lambda stride: conv(c, c, size, stride, size // 2, groups=c)
    half = lambda stride: (nn.ReLU(), depthwise(stride), conv(c, c, 1), norm(c, affine))
    return Chain(*half(stride), *half(1))


def dilated(c, size, stride, affine):
    depthwise = conv(c, c, size, stride, size - 1, dilation=2, groups=c)
    return Chain(nn.ReLU(), depthwise, conv(c, c, 1), norm(c, affine))


class FactorizedReduce(nn.Module):
    def __init__(self, c_in, c_out, affine):
        super().__init__()
        self.conv_1 = conv(c_in, c_out // 2, 1, 2)
        self.conv_2 = conv(c_in, c_out // 2, 1, 2)
        self.bn = norm(c_out, affine)

    def forward(self, x):
        x = functional.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class Zero(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def operation(name, c, stride, affine):
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c, affine)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if name == "conv_7x1_1x7":
        row, column = conv(c, c, (1, 7), (1, stride), (0, 3)), conv(c, c, (7, 1), (stride, 1), (3, 0))
        return nn.Sequential(nn.ReLU(), row, column, norm(c, affine))
    kind, size = name.rsplit("_", 1)
    return {"sep_conv": separable, "dil_conv": dilated}[kind](c, int(size[0]), stride, affine)


def reductions(layers):
    return layers // 3, 2 * layers // 3


class Inputs(nn.Module):
    """What cells of both networks begin with."""

    def __init__(self, c_before, c_last, c, after_reduction, affine):
        super().__init__()
        halve = FactorizedReduce if after_reduction else relu_conv_bn
        self.preprocess0 = halve(c_before, c, affine)
        self.preprocess1 = relu_conv_bn(c_last, c, affine)

    def states(self, before, last):
        return [self.preprocess0(before), self.preprocess1(last)]


class FoundCell(Inputs):
    def __init__(self, genes, concat, channels, reduction, after_reduction):
        super().__init__(*channels, after_reduction, True)
        self.inputs, self.concat = [gene["input"] for gene in genes], concat
        stride = lambda source: 2 if reduction and source < 2 else 1
        ops = [operation(gene["op"], channels[2], stride(gene["input"]), True) for gene in genes]
        self._ops = nn.ModuleList(ops)

    def forward(self, before, last):
        states = self.states(before, last)
        for k in range(0, len(self._ops), 2):
            terms = [self._ops[j](states[self.inputs[j]]) for j in (k, k + 1)]
            states.append(terms[0] + terms[1])
        return torch.cat([states[i] for i in self.concat], dim=1)


class AuxiliaryHead(nn.Module):
    def __init__(self, c, classes, stride, last_norm):
        super().__init__()
        pool = nn.AvgPool2d(5, stride, 0, count_include_pad=False)
        head = [nn.ReLU(), pool, conv(c, 128, 1), norm(128, True), nn.ReLU(), conv(128, 768, 2)]
        head += [norm(768, True)] if last_norm else []
        self.features = nn.Sequential(*head, nn.ReLU())
        self.classifier = nn.Linear(768, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Found(nn.Module):
    """The network of a genotype, for small images or (`imagenet`) large ones."""

    def __init__(self, genotype, imagenet, channels, layers, classes, auxiliary):
        super().__init__()
        if imagenet:
            half = channels // 2
            self.stem0 = nn.Sequential(
                conv(3, half, 3, 2, 1), norm(half, True), nn.ReLU(), conv(half, channels, 3, 2, 1), norm(channels, True)
            )
            self.stem1 = nn.Sequential(nn.ReLU(), conv(channels, channels, 3, 2, 1), norm(channels, True))
        else:
            self.stem = nn.Sequential(conv(3, 3 * channels, 3, 1, 1), norm(3 * channels, True))
        before = last = channels if imagenet else 3 * channels
        after_reduction, c, cells = imagenet, channels, []
        for layer in range(layers):
            reduction = layer in reductions(layers)
            c *= 2 if reduction else 1
            kind = "reduce" if reduction else "normal"
            genes, concat = genotype[kind], genotype[kind + "_concat"]
            cells.append(FoundCell(genes, concat, (before, last, c), reduction, after_reduction))
            before, last, after_reduction = last, len(concat) * c, reduction
            if layer == 2 * layers // 3 and auxiliary:
                self.auxiliary_head = AuxiliaryHead(last, classes, 2 if imagenet else 3, not imagenet)
        self.cells = nn.ModuleList(cells)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x):
        return self.both(x)[0]

    def both(self, x):
        """Logits, and those of the auxiliary head if there is one."""
        if hasattr(self, "stem"):
            before = last = self.stem(x)
        else:
            before = self.stem0(x)
            last = self.stem1(before)
        second = None
        for layer, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if layer == 2 * len(self.cells) // 3 and hasattr(self, "auxiliary_head"):
                second = self.auxiliary_head(last)
        return self.classifier(last.mean((2, 3))), second


class MixedOp(nn.Module):
    def __init__(self, candidates, c, stride):
        super().__init__()
        ops = []
        for name in candidates:
            op = operation(name, c, stride, False)
            ops.append(nn.Sequential(op, norm(c, False)) if "pool" in name else op)
        self._ops = nn.ModuleList(ops)

    def forward(self, x, weights):
        return sum(w * op(x) for w, op in zip(weights, self._ops))


class SearchCell(Inputs):
    def __init__(self, candidates, nodes, channels, reduction, after_reduction):
        super().__init__(*channels, after_reduction, False)
        self.nodes = nodes
        ends = [source for node in range(nodes) for source in range(node + 2)]
        edges = [MixedOp(candidates, channels[2], 2 if reduction and source < 2 else 1) for source in ends]
        self._ops = nn.ModuleList(edges)

    def forward(self, before, last, weights):
        states, edge = self.states(before, last), 0
        for _ in range(self.nodes):
            total = sum(self._ops[edge + j](x, weights[edge + j]) for j, x in enumerate(states))
            edge += len(states)
            states.append(total)
        return torch.cat(states[2:], dim=1)


class Search(nn.Module):
    """The supernet; the published code keeps the alphas out of its state_dict, and so does this one."""

    def __init__(self, candidates, channels, layers, nodes, classes, stem_multiplier=3):
        super().__init__()
        c_stem = stem_multiplier * channels
        self.stem = nn.Sequential(conv(3, c_stem, 3, 1, 1), norm(c_stem, True))
        before = last = c_stem
        after_reduction, c, cells = False, channels, []
        for layer in range(layers):
            reduction = layer in reductions(layers)
            c *= 2 if reduction else 1
            cells.append(SearchCell(candidates, nodes, (before, last, c), reduction, after_reduction))
            before, last, after_reduction = last, nodes * c, reduction
        self.cells, self.layers = nn.ModuleList(cells), layers
        self.classifier = nn.Linear(last, classes)

    def forward(self, x, alphas):
        weights = {kind: functional.softmax(alpha, dim=-1) for kind, alpha in alphas.items()}
        before = last = self.stem(x)
        for layer, cell in enumerate(self.cells):
            kind = "reduce" if layer in reductions(self.layers) else "normal"
            before, last = last, cell(before, last, weights[kind])
        return self.classifier(last.mean((2, 3)))


def spread(name, shape):
    """Numbers from 0 to 1 that follow from a name alone, so that large tensors need not be stored."""
    x = (zlib.crc32(name.encode()) + torch.arange(math.prod(shape)) * 2654435761) % 2**32
    x = ((x ^ x >> 16) * 73244475) % 2**32
    return ((x ^ x >> 16) >> 8).double().reshape(shape) / 2**24


def fill(network):
    """Gives every weight and statistic a value by its name, of the sizes that `draw` draws."""
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        x = spread(name, tensor.shape)
        if name.endswith("running_var") or tensor.dim() == 1 and name.endswith("weight"):
            x = x + 0.5
        elif tensor.dim() == 1:
            x = x - 0.5
        else:
            x = (2 * x - 1) * math.sqrt(3 / (tensor.numel() // len(tensor)))
        tensor.copy_(x)
    return network.eval()


def draw(network, generator):
    """Gives every weight and statistic a value that makes a mistake visible: nothing stays 0 or 1."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.num_batches_tracked.fill_(7)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                bound = (3.0 / module.weight[0].numel()) ** 0.5
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-0.5, 0.5, generator=generator)
    return network.eval()
