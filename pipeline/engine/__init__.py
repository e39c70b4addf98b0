"""Engines: whatever samples and scores tokens behind `ports.Engine`.

cache     keys and values in buffers made once, written in place
rows      rows of tokens a causal language model has read, to be read on, repeated, thinned out
sampling  completions drawn by inverse CDF, one random stream per completion
scoring   log-probabilities of targets, each shared beginning read once
local     LocalEngine, a transformers model in this process
scripted  ScriptedEngine, answers from two functions, for whole-loop tests
"""
