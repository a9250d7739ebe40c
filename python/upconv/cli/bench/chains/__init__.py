# `upconv bench --chains`: KernelBench level 2 on the CPU, whole chains, upconv.optimize beside PyTorch eager.
