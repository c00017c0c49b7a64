"""The learning-rate finder for notebooks. Public names are loaded when first used: what needs no torch loads none."""
__version__ = "0.2.0"

from importlib import import_module

_NAMES = {
    'core.curve': ('LossCurve', 'load_curve', 'save_curve'),
    'core.rules': ('RULES', 'Reading', 'rule'),
    'core.refuse': ('NoSuggestion',),
    'core.suggest': ('Suggestion', 'analyse'),
    'core.diagnose': ('diagnose',),
    'core.consensus': ('Consensus', 'consensus', 'diagnose_runs'),
    'core.spread': ('Spread',),
    'core.scaling': ('Scaled', 'scale_lr'),
    'core.schedule': ('one_cycle', 'sweep_lrs'),
    'core.trials': ('Trial', 'Trials'),
    'core.trainings': ('Training', 'Trainings'),
    'show.plot': ('plot_curve',),
    'show.plot_trials': ('plot_trials',),
    'show.explorer': ('LRExplorer',),
    'engine.randomness': ('set_seed',),
    'engine.state': ('preserved',),
    'engine.finder': ('LRFinder',),
    'engine.repeat': ('Repeats', 'repeat', 'sources'),
    'engine.compare': ('compare', 'compare_batch_sizes'),
    'adapters.finder_for': ('finder_for',),
    'train.device': ('best_device',),
    'train.history': ('History', 'load_history'),
    'train.evaluate': ('accuracy',),
    'engine.callbacks': ('Callback',),
    'train.callbacks': ('EarlyStopping', 'KeepBest'),
    'train.rates': ('OneCycle', 'Stepwise'),
    'train.one_cycle': ('TrainingDiverged', 'fit', 'fit_one_cycle'),
    'train.mixup': ('mixup', 'soft_cross_entropy'),
    'project.data': ('digits', 'fashion_mnist'),
    'project.models': ('SmallCNN',),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = ['__version__', *sorted(_HOME)]


def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f'{__name__}.{_HOME[name]}'), name)
    globals()[name] = value
    return value


def __dir__(): return sorted({*globals(), *_HOME})
