#= 2:26: field 'channel' of CLOSE_CHANNEL stands there twice
G> CLOSE_CHANNEL relid=1 channel=2
