//! Buzzer's promises, tried on real processes and a real RabbitMQ.

mod broker;
