"""The other implementation that we compare with: Hugging Face's GPT-2."""

from transformers import GPT2Config, GPT2LMHeadModel


def peer(config):
    """Return Hugging Face's GPT-2 of the same shape, untied and with the exact GELU."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            activation_function="gelu",
            tie_word_embeddings=False,
        )
    )
