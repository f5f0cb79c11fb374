# Connecting while connected is the application's mistake.
case 028
side guest
version 5.3
A> connect
A< error op=connect kind=UsageError
G> silence
= connected 5.3
