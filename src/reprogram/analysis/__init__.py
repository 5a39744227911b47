"""What a reprogrammed model's gradients and outputs say before and after training.

`ntk` computes neural tangent kernels; `spectrum` reads them; `transferability` holds the scores that
they are compared with. Nothing is imported here: each part is asked for by name.
"""
