"""One file a migration, each with the one before it in `down_revision`."""
