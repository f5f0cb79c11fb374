# A close is the device's business alone: the guest hears nothing.
case 069
version 5.3
offer
open relid=1
G> CLOSE_CHANNEL relid=1
H< close relid=1
= channel 1 closing
H> done
G< silence
= channel 1 closed
