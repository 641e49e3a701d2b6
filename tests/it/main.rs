//! Buzzer as its users meet it.

mod walls;
