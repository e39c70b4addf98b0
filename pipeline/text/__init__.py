"""What is read off text alone: tags, answers, options, repetition, votes."""
