"""A page in the browser in which a person takes hold of what a network has found: `objectscape explore`.

`session` asks the model, by its abilities only; `views` makes pictures of the answers; `server` serves them to the
page, which stands in `page/`; `export` writes page and answers into one file.
"""
