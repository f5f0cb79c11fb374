#= 2:27: user: 121 bytes, at most 120 fit
G> OPEN_CHANNEL      user=00*121
