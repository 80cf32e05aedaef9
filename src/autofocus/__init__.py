"""autofocus: AutoML for images that you run yourself."""
