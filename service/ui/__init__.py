"""The pages at `/ui`: plain HTML, CSS and ES modules, served as they lie here by `service.api.ui`.

There is no build step, and nothing is fetched from elsewhere. Every address in a page is relative, so that the service
may sit behind a proxy at any path.
"""
