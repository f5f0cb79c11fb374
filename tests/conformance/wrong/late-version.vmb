#= 3:1: version is a given
G> UNLOAD
version 5.3
