#= 5:1: expected H< close relid=1, got nothing
version 5.3
offer
G> CLOSE_CHANNEL relid=1
H< close relid=1
