"""Durable batch jobs: files, batches and their rows in a database, and the worker that runs rows on the engine.

files       bytes and their description        lines     what an input file's lines must be
batches     one batch's life                   rows      claimed, leased, checkpointed, finished exactly once
finalize    results to output and error files  worker    the coroutines of one server process
database    one connection pool, one clock     tables    what is stored; migrations/ makes it
"""
