#= 2:25: vtl: 0x100 does not fit in 8 bits
G> INITIATE_CONTACT vtl=0x100
