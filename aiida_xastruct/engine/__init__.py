"""The science of XAStruct. Nothing in this package imports AiiDA, so that it runs alone on a compute node."""

#: Versions of what turns an input into an answer, one a task. A change that alters any number an answer holds
#: raises the task's version; every prediction and inference stores it, so that caches never mix two of them.
ALGORITHM_VERSION: dict[str, str] = {"forward": "4", "neighbours": "6", "distance": "5"}

#: The same for what is known of crystals and their sites before a model is asked (symmetry, first shells, features): what
#: `engine.sitecache` keeps is of one version.
FEATURES_VERSION = "1"
