#= 2:26: relid: 'one' is no number
G> CLOSE_CHANNEL   relid=one
