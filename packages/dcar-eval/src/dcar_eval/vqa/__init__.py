"""Benchmarks that ask a vision-language model about images: GenEval 2 (Soft-TIFA) and DPG-Bench."""
