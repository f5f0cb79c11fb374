# A close of what was never opened sends nothing.
case 077
side guest
version 5.3
offer relid=5
A> close relid=5
A< error op=close kind=UsageError
G> silence
