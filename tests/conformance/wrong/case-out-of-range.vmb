#= 2:10: case 315: 1 to 314
case 054 315
G> UNLOAD
