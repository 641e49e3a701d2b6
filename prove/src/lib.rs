//! Campaigns of faults against a real Buzzer. [`campaign`] puts one together: [`ground`] is the system of processes,
//! [`proxy`] what disturbs the lines between them, [`nemesis`] what goes wrong and when, [`clients`] those who use the
//! system meanwhile with the jobs of [`work`], [`ledger`] what they were told, [`checker`] what became of that, [`report`]
//! how it is said.

pub mod campaign;
pub mod checker;
pub mod clients;
pub mod error;
pub mod ground;
pub mod ledger;
pub mod nemesis;
pub mod proxy;
pub mod report;
pub mod wait;
pub mod work;
