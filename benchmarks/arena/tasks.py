"""The tasks of the arena: what is trained, with what, for how long, and how the outcome is measured"""
import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn, optim

import nets
import sources
from lrfinder_nb import mixup, set_seed

cross_entropy, squares = nn.CrossEntropyLoss(), nn.MSELoss()


@dataclass(frozen=True)
class Task:
    "Something to train, and for how long"
    name: str               # in words that make a file name
    family: str             # of the optimizer: sgd, momentum, adam, adamw, rmsprop, lion or muon
    model: object           # model() -> nn.Module, drawn from torch's random state
    optimizer: object       # optimizer(params, lr=...) -> Optimizer
    data: object            # data() -> ((x, y), (x, y)): for training and for validation
    batch_size: int
    epochs: int             # the horizon
    loss_fn: object = cross_entropy
    final_loss: object = None       # of the outcome, where it is not `loss_fn`: a mean over samples
    classes: bool = True    # whether the outcome has an error rate, too
    mixed: float = 0.       # MixUp's alpha
    long: bool = False      # whether the truth is known for four times the horizon, too
    slow: bool = False      # whether it gets fewer seeds

    def make(self, seed, lr=1e-3):
        "(model, optimizer), fresh from `seed`"
        set_seed(seed)
        model = self.model()
        return model, self.optimizer([p for p in model.parameters() if p.requires_grad], lr=lr)

    def loaders(self, seed):
        "(train_dl, valid_dl), the order of training drawn from `seed`"
        train_dl, valid_dl = sources.loaders(*self.data(), self.batch_size, seed)
        return (mixup(train_dl, self.mixed, num_classes=10) if self.mixed else train_dl), valid_dl

    @torch.no_grad()
    def outcome(self, model):
        "(loss, error) on the validation data, in eval mode; the error is None in a regression"
        model.eval()
        loss_fn, outputs, targets = self.final_loss or self.loss_fn, [], []
        for x, y in self.loaders(0)[1]:
            outputs.append(model(x))
            targets.append(y)
        output, target = torch.cat(outputs), torch.cat(targets)
        loss = float(loss_fn(output, target))
        if not self.classes:
            return loss, None
        return loss, float((output.argmax(-1) != target).float().mean())

    @property
    def steps(self):
        "Steps of the horizon"
        return self.epochs*math.ceil(len(self.data()[0][0])/self.batch_size)


sgd = optim.SGD
momentum = partial(optim.SGD, momentum=.9)
nesterov = partial(optim.SGD, momentum=.9, nesterov=True, weight_decay=5e-4)
summed = nn.CrossEntropyLoss(reduction='sum')


def smoothed(output, target):
    "Cross-entropy with a tenth of the label spread over all classes"
    return F.cross_entropy(output, target, label_smoothing=.1)


def deep_tanh():
    "A deep, narrow net that starts on a plateau: its weights are small"
    model = nets.mlp(196, 40, 40, 40, 40, 10, act=nn.Tanh)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=.55/math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)
    return model


def spread_wine():
    "The wines, their thirteen columns scaled from 1 to 0.03"
    scales = torch.logspace(0, -1.5, 13)
    (x, y), (valid_x, valid_y) = sources.table('wine', 58)
    return (x*scales, y), (valid_x*scales, valid_y)


def raw_cancer():
    "The tumours as they are measured: columns from 0.001 to 4,000"
    return sources.table('breast_cancer', 169, False)


def clothes(n, held=1000, side=14):
    return partial(sources.fashion, n, held, side)


def code(n, **kw):
    return partial(sources.text, n, **kw)


def noisy_clothes():
    return sources.noisy(sources.fashion(3000), .4)


IMAGES = [
    Task('clothes mlp adam', 'adam', partial(nets.mlp, 196, 128, 10), optim.Adam, clothes(4000), 64, 5,
         long=True),
    Task('clothes mlp sgd', 'sgd', partial(nets.mlp, 196, 100, 50, 10), sgd, clothes(2500), 32, 5),
    Task('clothes cnn momentum', 'momentum', nets.cnn, momentum, clothes(4000), 64, 4, long=True),
    Task('clothes cnn norm adamw', 'adamw', partial(nets.cnn, True), partial(optim.AdamW,
         weight_decay=.1), clothes(6000), 128, 4, long=True),
    Task('clothes resnet nesterov', 'momentum', nets.resnet, nesterov, clothes(3000), 96, 5),
    Task('clothes cnn norm large batch', 'momentum', partial(nets.cnn, True), momentum, clothes(10000),
         512, 6),
    Task('clothes rows lstm adam', 'adam', nets.Rows, optim.Adam, clothes(4000), 64, 4),
    Task('clothes rows gru momentum', 'momentum', partial(nets.Rows, nn.GRU), momentum, clothes(3000),
         32, 3),
    Task('clothes patches adamw', 'adamw', nets.Patches, partial(optim.AdamW, weight_decay=.05),
         clothes(3000, side=28), 64, 4),
    Task('clothes mlp lion', 'lion', partial(nets.mlp, 196, 128, 10), nets.Lion, clothes(8000), 256, 8,
         long=True),
    Task('clothes mlp muon', 'muon', partial(nets.mlp, 196, 96, 96, 10, norm=True, bias=False),
         optim.Muon, clothes(4000), 128, 6),
    Task('clothes noisy labels', 'adamw', partial(nets.cnn, True), optim.AdamW, noisy_clothes, 64, 5),
    Task('clothes few samples', 'adam', partial(nets.mlp, 196, 64, 10, dropout=.3), optim.Adam,
         clothes(200), 8, 12),
    Task('clothes mixup', 'adam', nets.cnn, optim.Adam, clothes(4000), 64, 4, mixed=.4),
    Task('clothes dropout rmsprop', 'rmsprop', partial(nets.mlp, 196, 128, 128, 10, dropout=.5),
         optim.RMSprop, clothes(4000), 64, 5, loss_fn=smoothed, long=True),
    Task('clothes deep tanh', 'momentum', deep_tanh, momentum, clothes(3000), 32, 4),
    Task('clothes efficientnet', 'adamw', nets.efficientnet, partial(optim.AdamW, weight_decay=.01),
         clothes(256, 300, 28), 16, 4, slow=True),
    Task('clothes efficientnet features', 'sgd', partial(nn.Linear, 1280, 10), sgd, nets.image_features,
         32, 6),
]

OTHERS = [
    Task('code gru adam', 'adam', nets.Reader, optim.Adam, code(4000), 16, 1, nets.token_loss),
    Task('code lstm rmsprop', 'rmsprop', partial(nets.Reader, nn.LSTM), optim.RMSprop, code(6000), 32,
         1, nets.token_loss),
    Task('code transformer adamw', 'adamw', nets.Transformer, partial(optim.AdamW, weight_decay=.1),
         code(6000), 32, 1, nets.token_loss, long=True),
    Task('prose fine-tuned transformer', 'adamw', nets.pretrained_transformer, optim.AdamW, code(3000,
         prose=True), 24, 1, nets.token_loss),
    Task('digits summed loss', 'momentum', partial(nets.mlp, 64, 64, 10), momentum,
         partial(sources.table, 'digits', 500), 32, 6, summed, cross_entropy),
    Task('wine ill conditioned', 'sgd', partial(nn.Linear, 13, 3), sgd, spread_wine, 8, 20, long=True),
    Task('tumours not normalised', 'adam', partial(nets.mlp, 30, 32, 2), optim.Adam, raw_cancer, 16,
         10),
    Task('tumours mlp momentum', 'momentum', partial(nets.mlp, 30, 32, 32, 2, act=nn.SiLU), momentum,
         partial(sources.table, 'breast_cancer', 169), 16, 8, long=True),
    Task('diabetes mlp rmsprop', 'rmsprop', partial(nets.mlp, 10, 48, 48, 1), optim.RMSprop,
         partial(sources.table, 'diabetes', 142), 16, 12, squares, classes=False),
    Task('patches auto-encoder adam', 'adam', partial(nets.mlp, 64, 48, 8, 48, 64), optim.Adam,
         sources.patches, 32, 4, squares, classes=False, long=True),
    Task('flower pixels adam', 'adam', partial(nets.mlp, 34, 64, 64, 3), optim.Adam, sources.pixels,
         256, 5, squares, classes=False, long=True),
]

TASKS = {task.name: task for task in IMAGES + OTHERS}
