"""Can knowledge distillation transfer inductive biases between CNNs and ViTs? The notebooks' package.

Data flows one way, and a module imports only from those above it; README.md lists them.
"""

__version__ = "0.2.0"
