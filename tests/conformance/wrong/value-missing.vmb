#= 2:24: relid: a value is missing
G> CLOSE_CHANNEL relid=
