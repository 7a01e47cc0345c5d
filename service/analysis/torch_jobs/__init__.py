"""Work modules that need torch: named by an `Analysis`, imported only in a child process of its own.

This is the one package of the service that may import torch, and only inside functions or in
modules that these functions import. Nothing else of the service
imports it: an `Analysis` names a module here as its `work` and sets `own_process`.
"""
