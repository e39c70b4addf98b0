"""Engines: whatever samples and scores tokens behind `ports.Engine`.

cache     keys and values in buffers made once, written in place
grouped   attention whose heads share keys, without a copy of the keys for each
rows      rows of tokens a causal language model has read, to be read on, repeated, thinned out
sampling  completions drawn by inverse CDF, one random stream per completion
looks     what is read off logits: log-probabilities, certainty, entropy
scoring   what is said of targets, each shared beginning read once
local     LocalEngine, a transformers model in this process
batching  BatchingEngine, transformers' continuous batching in this process
parity    Paired, an engine held against the local one at its start and after every load
served    ServedEngine, vLLM in a process of its own: process (a program asked line by line, with
          deadlines) and vllm_child (that program, run by the interpreter that has vLLM)
scripted  ScriptedEngine, answers from functions, for whole-loop tests
"""
