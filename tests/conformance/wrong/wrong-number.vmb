#= 2:4: CLOSE_CHANNEL has number 7, not 8
G> CLOSE_CHANNEL(8)
