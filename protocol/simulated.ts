/**
 * Robots that only pretend to work, for demos and soak tests (`robot-fleet simulate`). A label marks them, and a robot
 * that carries it gets only jobs meant for such robots: those that name the label, or the robot itself. Real work
 * never ends as "completed" on a robot that did nothing.
 */

/** Its value is `true`. */
export const simulatedLabel = 'simulated';
/** With the value `any` a simulated robot is given whatever a real one would be. */
export const simulatedTakesLabel = 'simulated.takes';

/** Announced by a service that honours this; a simulated robot stays away from any other. */
export const simulatedFeature = 'simulated-robots';
