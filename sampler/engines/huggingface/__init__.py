"""Hugging Face checkpoints and tokenizers, shared by the engines that read them. Not an engine itself."""
