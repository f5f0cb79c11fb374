# A device that was asked and closes: the channel is closed. One that was never asked is asked later.
case 204
version 5.3
offer
open relid=1
save
G> CLOSE_CHANNEL relid=1
H< close relid=1
restore
= channel 1 open
G> CLOSE_CHANNEL relid=1
H< close relid=1
save
restore
= channel 1 closing
silence
H> close
= channel 1 closed
silence
