"""Can knowledge distillation transfer inductive biases between CNNs and ViTs? The notebooks' package.

Data flows one way, and a module imports only from those above it:

    data       images as uint8 tensors: CIFAR-10, CIFAR-100, an image folder, or the procedural set
    probes     test images -> changed test images
    models     timm's CNNs and ViTs behind one forward pass
    methods    one file for each distillation method
    train      the training loop
    bias       measures, their intervals, transfer
    study      which networks a study trains, where they are kept, what they answer
    report     tables, claims, figures, sentences, the page
"""

__version__ = "0.2.0"
