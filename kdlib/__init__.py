"""Can inductive biases be distilled across architectures? The thin package behind the notebooks.

Data flows one way, and a module imports only from those above it:

    data       images as uint8 tensors: CIFAR-10, an image folder, or the procedural set
    probes     test images -> perturbed test images
    models     timm CNNs and ViTs behind one forward
    methods    one file a distillation method
    train      the one training loop
    runs       a run is a value; load it, or train it
    bias       measures and their intervals
    figures    plots from tables
    study      profiles, notebooks, report
"""

__version__ = "0.1.0"
