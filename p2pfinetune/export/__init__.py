"""What was learnt, in the forms that other programs load.

    format      what is written                                                        who loads it
    peft        the adapter alone, and the tokenizer (`p2pfinetune.model.peft_folder`)   transformers + peft, vLLM, TGI
    merged      the base with the adapter folded into its weights                        transformers, vLLM, MLX, Ollama
    gguf-lora   the adapter alone, as llama.cpp reads one                                llama.cpp, Ollama, LM Studio
    gguf        the base with the adapter folded in, as one file                         llama.cpp, Ollama, LM Studio

Which of them: an adapter is small and exact, and wants its base beside it; a merged model is large, stands alone, and
is rounded to the numbers that the base is stored in. GGUF is written for the families in `gguf_families` and nothing
else: llama.cpp would load a model whose heads are laid out otherwise, and talk nonsense (ADR 0037).

Layers with several adapters are one adapter again, or, with a router, a folder of several (`experts`).

Everything is made in a folder beside its place and moved there whole, so that a power cut, a full disk or Ctrl-C leaves
what was there before. Nobody ever holds a second model in memory: tensors are read from the base's files, changed and
written one by one.
"""
