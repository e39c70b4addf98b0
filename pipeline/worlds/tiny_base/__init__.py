"""The tiny base: its weights and tokenizer, and the script that makes them."""
