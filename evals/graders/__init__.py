"""Graders: what an answer's final answer is, and whether it equals the gold one.

Text is read by hand-written scans and by patterns that take linear time, whatever a model writes; what may take for
ever (computer algebra, model-written code) runs in processes that are killed.
"""
