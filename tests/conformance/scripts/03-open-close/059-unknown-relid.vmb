# Open and close of a relid that nobody has: no answer.
case 059
version 5.3
offer
G> OPEN_CHANNEL relid=2
G> OPEN_CHANNEL relid=0
G> OPEN_CHANNEL relid=2048
G> OPEN_CHANNEL relid=0xFFFFFFFF
G> CLOSE_CHANNEL relid=2
G> CLOSE_CHANNEL relid=0
G> CLOSE_CHANNEL relid=0xFFFFFFFF
= refused 7
G< silence
