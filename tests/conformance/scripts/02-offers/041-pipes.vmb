# A pipe: its mode before the device's bytes, its flags behind them.
case 041
version 5.3
H> offer offer_flags=MESSAGE_PIPE pipe_flags=1 user=aa*112
G< OFFER_CHANNEL relid=1 flags=0x10 user=04000000,aa*112,01000000
H> offer offer_flags=PIPE pipe_flags=1 user=bb*112
G< OFFER_CHANNEL relid=2 flags=0x10 user=00000000,bb*112,01000000
