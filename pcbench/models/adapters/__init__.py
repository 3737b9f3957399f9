"""Networks of other people's libraries, behind the forms that `pcbench.network` takes. One file a library or form."""
