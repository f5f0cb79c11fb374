# A channel that came back with the bus cannot be offered once more: it is there already.
case 215
version 5.3
offer instance=1
open relid=1
save
restore
H> offer id=9 instance=1
H< offer_result id=9 status=FAILED
= channels 1
= channel 1 open
silence
